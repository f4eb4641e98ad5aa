"""Side room: readers and importers of published weights. Nothing in a file is executed."""
