"""What `experiments.captioning` alone needs: the model, what writes with it, pictures."""
