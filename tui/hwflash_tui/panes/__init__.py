"""Parts of the work screen."""
