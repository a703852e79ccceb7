"""Container images: what goes into each (`recipes`), its tag (`plan`), its making (`build`), and its dependencies (`locks`)."""
