"""The upload flow: from a reservation to a processed image, or back."""
