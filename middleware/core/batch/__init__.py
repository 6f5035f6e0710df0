"""What is computed together: the queue, the plan, and what is learned of the server."""
