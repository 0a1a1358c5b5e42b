//! Printing.
/// An expression as text.
pub fn expr_to_text(expr: &crate::Expr) -> String {
    format!("{expr:?}")
}
