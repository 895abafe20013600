"""When a model is trained again: events, the policy that weighs them, and the ledger of both."""
