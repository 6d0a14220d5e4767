"""`sunabox why`: what is wrong with a task, a target or a service, in sentences, and where to change it."""
