"""mta.yaml and the files that it names: read strictly, checked, and handed down as values."""
