//! Collects what is wrong with the fields of a command, so that a client learns of all of it at once.

use std::fmt::Display;

use super::rejection::{FieldError, Rejection};

/// What was found wrong so far.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what is wrong with `field`.
    pub fn refuse(&mut self, field: &str, reason: impl Display) {
        self.0.push(FieldError { field: field.to_owned(), reason: reason.to_string() });
    }

    /// Notes `reason` unless the condition `holds`.
    pub fn require(&mut self, holds: bool, field: &str, reason: &str) {
        if !holds {
            self.refuse(field, reason);
        }
    }

    /// The value, or its reason noted.
    pub fn take<T, E: Display>(&mut self, field: &str, checked: Result<T, E>) -> Option<T> {
        checked.map_err(|reason| self.refuse(field, reason)).ok()
    }

    /// Notes what is wrong with a text that must have 1 to `chars_max` characters.
    pub fn text(&mut self, field: &str, value: &str, chars_max: usize) {
        self.take(field, check_text(value, chars_max));
    }

    /// The same for a text that may be absent.
    pub fn optional_text(&mut self, field: &str, value: Option<&str>, chars_max: usize) {
        if let Some(value) = value {
            self.text(field, value, chars_max);
        }
    }

    /// Nothing was wrong.
    ///
    /// # Errors
    /// [`Rejection::InvalidFields`] with everything that was noted.
    pub fn finish(self) -> Result<(), Rejection> {
        if self.0.is_empty() { Ok(()) } else { Err(self.rejection()) }
    }

    /// The rejection, for one who knows that something is wrong.
    pub fn rejection(self) -> Rejection {
        Rejection::InvalidFields(self.0)
    }
}

/// Something to read: 1 to `chars_max` characters, not all blank, none of them a control character.
fn check_text(value: &str, chars_max: usize) -> Result<(), String> {
    if value.trim().is_empty() {
        Err("is empty".to_owned())
    } else if value.chars().any(char::is_control) {
        Err("contains a control character".to_owned())
    } else if value.chars().count() > chars_max {
        Err(format!("is longer than {chars_max} characters"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut fields = Fields::new();
        fields.text("name", " ", 10);
        fields.text("title", "a\u{7}", 10);
        fields.text("remark", "äöüäöü", 5);
        fields.text("fine", "äöüäö", 5);
        fields.require(false, "price", "must be positive");
        let Err(Rejection::InvalidFields(errors)) = fields.finish() else { panic!("must be refused") };
        let told: Vec<_> = errors.iter().map(|e| format!("{} {}", e.field, e.reason)).collect();
        assert_eq!(
            told,
            [
                "name is empty",
                "title contains a control character",
                "remark is longer than 5 characters",
                "price must be positive"
            ]
        );
    }
}
