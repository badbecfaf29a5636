"""Networks, their recipe at work, and the losses that treatments choose among."""
