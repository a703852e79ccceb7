"""Group relative policy optimization of the student (paper 3.4.3, A.1, A.2): adapters to verl and ms-swift."""
