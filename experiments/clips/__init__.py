"""What `experiments.frames` alone needs: the models, pictures of clips."""
