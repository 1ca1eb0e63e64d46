"""The status page: a view model and its rendering to HTML."""
