"""What edgeflow costs beside what people do today, measured in one run."""
