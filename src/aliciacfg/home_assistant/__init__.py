"""Home Assistant: the services of the home as its devices, over MQTT discovery."""
