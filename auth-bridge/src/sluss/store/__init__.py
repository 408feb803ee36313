"""The store: tables, migrations, field encryption; one repository a concept."""
