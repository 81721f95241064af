"""Programs that run on behalf of a model: started below a supervisor, and ended with all that they started."""
