"""How a machine is measured, and what is fitted to it; `convfold.cost.roofline` is what is kept of it."""
