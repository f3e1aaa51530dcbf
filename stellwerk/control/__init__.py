"""What do the objects ask for: typed objects, validation, objects to Catalog, Catalog to Envoy resources."""
