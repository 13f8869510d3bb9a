"""deliver: takes jobs from the queues to the channel programs, and settles them."""
