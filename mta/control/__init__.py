"""What an operator does with waiting mail: hold, release, requeue, delete, return, reroute."""
