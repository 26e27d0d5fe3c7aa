"""What is a training example worth? One module a concept; see the README for a map."""
