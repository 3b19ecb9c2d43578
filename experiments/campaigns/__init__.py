"""What must hold at full size: thousands of random trials, each a command, its result recorded in results/."""
