//! The text that is edited, and where its cursor is.

/// A text with a cursor, which lies on a character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: usize,
}

impl Text {
    /// With the cursor at its end.
    pub(super) fn of(text: &str) -> Text {
        Text { text: text.to_owned(), at: text.len() }
    }

    pub(super) fn insert(&mut self, text: &str) {
        if self.text.len() + text.len() > prism_dsl::MAX_BYTES {
            return;
        }
        self.text.insert_str(self.at, text);
        self.at += text.len();
    }

    /// Puts something in the place of what stands between `start` and the cursor.
    pub(super) fn replace_from(&mut self, start: usize, with: &str) {
        self.text.replace_range(start..self.at, with);
        self.at = start + with.len();
    }

    pub(super) fn left(&mut self) {
        self.at = self.before().map_or(0, |(at, _)| at);
    }

    pub(super) fn right(&mut self) {
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
    }

    pub(super) fn word_left(&mut self) {
        self.at = self.word_start();
    }

    pub(super) fn word_right(&mut self) {
        let rest = &self.text[self.at..];
        let word = rest.find(is_letter).unwrap_or(rest.len());
        let end = rest[word..].find(|c| !is_letter(c)).unwrap_or(rest.len() - word);
        self.at += word + end;
    }

    pub(super) fn home(&mut self) {
        self.at = self.text[..self.at].rfind('\n').map_or(0, |end| end + 1);
    }

    pub(super) fn end(&mut self) {
        self.at = self.text[self.at..].find('\n').map_or(self.text.len(), |end| self.at + end);
    }

    pub(super) fn backspace(&mut self) {
        if let Some((at, _)) = self.before() {
            self.replace_from(at, "");
        }
    }

    pub(super) fn delete(&mut self) {
        if self.at < self.text.len() {
            self.text.remove(self.at);
        }
    }

    pub(super) fn cut_to_end(&mut self) {
        let at = self.at;
        self.end();
        self.replace_from(at, "");
    }

    pub(super) fn cut_to_start(&mut self) {
        let at = self.at;
        self.home();
        let start = self.at;
        self.at = at;
        self.replace_from(start, "");
    }

    pub(super) fn cut_word(&mut self) {
        self.replace_from(self.word_start(), "");
    }

    /// To the line above; whether there is one.
    pub(super) fn up(&mut self) -> bool {
        let column = self.column();
        self.home();
        if self.at == 0 {
            return false;
        }
        self.at -= 1;
        self.home();
        self.go_to_column(column);
        true
    }

    /// To the line below; whether there is one.
    pub(super) fn down(&mut self) -> bool {
        let column = self.column();
        self.end();
        if self.at == self.text.len() {
            return false;
        }
        self.at += 1;
        self.go_to_column(column);
        true
    }

    fn column(&self) -> usize {
        self.text[..self.at].chars().rev().take_while(|c| *c != '\n').count()
    }

    fn go_to_column(&mut self, column: usize) {
        let line = self.text[self.at..].chars().take_while(|c| *c != '\n').take(column);
        self.at += line.map(char::len_utf8).sum::<usize>();
    }

    fn before(&self) -> Option<(usize, char)> {
        self.text[..self.at].char_indices().next_back()
    }

    fn word_start(&self) -> usize {
        let front = &self.text[..self.at];
        let end = front.trim_end_matches(|c| !is_letter(c)).len();
        front[..end].trim_end_matches(is_letter).len()
    }
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with its cursor at `|`.
    fn text(text: &str) -> Text {
        Text { at: text.find('|').unwrap(), text: text.replace('|', "") }
    }

    fn after(before: &str, change: fn(&mut Text)) -> String {
        let mut of = text(before);
        change(&mut of);
        let mut shown = of.text;
        shown.insert(of.at, '|');
        shown
    }

    #[test]
    fn keys_do_what_they_do_elsewhere() {
        assert_eq!(after("aü|b", Text::backspace), "a|b");
        assert_eq!(after("a|üb", Text::delete), "a|b");
        assert_eq!(after("|a", Text::left), "|a");
        assert_eq!(after("ü|", Text::left), "|ü");
        assert_eq!(after("from http.route |", Text::word_left), "from |http.route ");
        assert_eq!(after("from| http.route x", Text::word_right), "from http.route| x");
        assert_eq!(after("a b.c| d", Text::cut_word), "a | d");
        assert_eq!(after("a\nb| c\nd", Text::cut_to_end), "a\nb|\nd");
        assert_eq!(after("a\nb |c\nd", Text::cut_to_start), "a\n|c\nd");
        assert_eq!(after("ab\nc|d", Text::home), "ab\n|cd");
        assert_eq!(after("a|b\ncd", Text::end), "ab|\ncd");
        assert_eq!(after("abc\nd|", |of| assert!(of.up())), "a|bc\nd");
        assert_eq!(after("ab|c\nd\ne", |of| assert!(of.down())), "abc\nd|\ne");
        assert_eq!(after("a|", |of| assert!(!of.up() && !of.down())), "a|");
        assert_eq!(after("a|", |of| of.insert("\n")), "a\n|");
    }
}
