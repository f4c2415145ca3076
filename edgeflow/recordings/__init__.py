"""Recordings as they are: found, listened to, cut into clips by a plan, written as a data set."""
