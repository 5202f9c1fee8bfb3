"""What searches over the steps of an answer share."""
