"""What `experiments.ctrnn` alone needs: pictures of what its network answers and how."""
