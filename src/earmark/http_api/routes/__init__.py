"""The calls, a module per noun; each offers `routes(services)`."""
