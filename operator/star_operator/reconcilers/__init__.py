"""One a kind: observe -> decide -> apply -> one status write."""
