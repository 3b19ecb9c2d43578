"""What `experiments.music` alone needs: MIDI files, pictures of piano rolls."""
