"""The process of the daemon: its memory, its streams, its end, and the service manager that started it.

It knows nothing of configurations.

    memory             what the collector of cycles looks at, and what is given back to the system
    line_writer        writes to the standard streams without waiting for their readers
    stop_deadline      ends the process when a stop takes too long
    service_manager    reports the state to systemd
"""
