"""The MQTT face: requests and answers, retained messages, the manners of the home's bus."""
