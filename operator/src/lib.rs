//! ordershop-operator
