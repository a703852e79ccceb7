"""Container images: what goes into each (`recipes`), its tag (`plan`), its making (`build`), its packages (`locks`)."""
