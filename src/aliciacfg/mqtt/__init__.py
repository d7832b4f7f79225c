"""The MQTT adapter: requests and answers, retained messages, and the conventions of the home's bus."""
