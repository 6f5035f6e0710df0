"""`compress`: smaller answers, requests in clear."""
