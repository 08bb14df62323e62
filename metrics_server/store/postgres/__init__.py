"""State in one PostgreSQL database, shared by any number of servers: each appends what it adds, any one adds it up."""
