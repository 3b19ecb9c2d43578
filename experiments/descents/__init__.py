"""What `experiments.cliff` alone needs: the unit and its loss, gradient descent over it, and the picture of both."""
