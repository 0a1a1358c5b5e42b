//! Invented customers: the personal data that a shop handles. Same seed and number, same person.
//!
//! Nothing here belongs to anyone: addresses end in `example.com` (RFC 2606), IP addresses are from the ranges kept for
//! documentation (RFC 5737, RFC 3849), cards are the payment industry's test numbers.

use serde::{Deserialize, Serialize};

/// The test card that every payment gateway declines.
pub const DECLINED_CARD: &str = "4000 0000 0000 0002";

/// Test cards as people type them: with blanks, with dashes, plain.
const CARDS: [&str; 5] =
    ["4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "4242424242424242", "6011 1111 1111 1117"];

/// One customer in so many has a card that is declined, so that a short run shows failures.
const DECLINED_ONE_IN: u64 = 8;

const GIVEN: [&str; 12] =
    ["ada", "bela", "chidi", "dunja", "edda", "farid", "greta", "hanna", "ivo", "jarmila", "kofi", "lale"];
const FAMILY: [&str; 10] = ["quist", "rosen", "santos", "tamm", "ueda", "varga", "wirth", "xu", "yilmaz", "zeman"];

const BROWSERS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "ShopApp/4.2.0 (Android 16; Pixel 10)",
];

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// `u-` and a number.
    pub id: String,
    /// E-mail address at `example.com`.
    pub email: String,
    /// Test card number.
    pub card: String,
    /// IPv4 or IPv6 address of a documentation range.
    pub address: String,
    /// What the frontend takes for a login.
    pub token: String,
    /// User agent.
    pub browser: String,
}

impl Person {
    /// The `number`-th customer of the world that `seed` describes.
    pub fn new(seed: u64, number: u64) -> Person {
        let mut dice = Dice::new(seed, number);
        let id = format!("u-{:05}", 10_000 + number);
        let email = format!("{}.{}{}@example.com", dice.pick(&GIVEN), dice.pick(&FAMILY), dice.below(90) + 10);
        let card = if dice.below(DECLINED_ONE_IN) == 0 { DECLINED_CARD } else { dice.pick(&CARDS) };
        let host = dice.below(254) + 1;
        let address = match dice.below(5) {
            0 => format!("2001:db8:{:x}::{host:x}", dice.below(0xffff) + 1),
            1 => format!("192.0.2.{host}"),
            2 => format!("198.51.100.{host}"),
            _ => format!("203.0.113.{host}"),
        };
        let token = format!("tok_{id}_{:016x}{:016x}", dice.next(), dice.next());
        let browser = dice.pick(&BROWSERS).to_owned();
        Person { id, email, card: card.to_owned(), address, token, browser }
    }
}

/// A small generator of numbers (splitmix64) that gives the same sequence on every machine.
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each pair.
    pub fn new(seed: u64, number: u64) -> Dice {
        Dice(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to and without `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_people() {
        assert_eq!(Person::new(7, 3), Person::new(7, 3));
        assert_ne!(Person::new(7, 3).token, Person::new(8, 3).token);
    }

    /// Card detectors check this sum, so a number that fails it would go unnoticed and prove nothing.
    #[test]
    fn test_cards_have_a_valid_check_digit() {
        for card in CARDS.iter().chain(&[DECLINED_CARD]) {
            let digits = card.bytes().filter(u8::is_ascii_digit).rev().map(|b| u32::from(b - b'0'));
            let sum: u32 = digits.enumerate().map(|(i, d)| if i % 2 == 1 { d * 2 / 10 + d * 2 % 10 } else { d }).sum();
            assert_eq!(sum % 10, 0, "{card}");
        }
    }

    #[test]
    fn addresses_are_kept_for_documentation() {
        for n in 0..500 {
            let person = Person::new(1, n);
            let ranges = ["192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:"];
            assert!(ranges.iter().any(|r| person.address.starts_with(r)), "{}", person.address);
            person.address.parse::<std::net::IpAddr>().unwrap();
            assert!(person.email.ends_with("@example.com"));
        }
    }
}
