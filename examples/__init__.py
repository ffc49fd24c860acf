"""Small applications that run; each is asked one request by the tests."""
