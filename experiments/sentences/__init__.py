"""What `experiments.sentiment` alone needs: pictures of sentences as they unfold."""
