"""What `experiments.music` alone needs: pictures of piano rolls."""
