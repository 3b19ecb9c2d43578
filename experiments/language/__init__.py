"""Language models: pictures of what they expect."""
