"""Telling somebody what became of a task: webhooks, messages by apprise, commands of the machine's own."""
