"""The HTTP service: `app.create_app` makes it from open `services.Services`; it mounts into any ASGI application."""
