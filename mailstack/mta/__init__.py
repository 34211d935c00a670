"""The MTA: the queue, routes, transfer to other MTAs, bounces; and the relay that takes mail in from them."""
