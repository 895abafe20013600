"""Give a model version more and more of the traffic, for as long as the evidence allows."""
