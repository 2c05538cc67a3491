//! What the tests of parsers share: kernel text that went wrong.

use proptest::prelude::*;

/// One way in which text goes wrong; places are parts of the whole.
#[derive(Clone, Debug)]
enum Damage {
    Cut { from: f64 },
    Remove { from: f64, count: usize },
    Insert { at: f64, text: String },
    Repeat { from: f64, count: usize },
}

/// Any text at all, or a real one with up to eight damages.
pub(crate) fn kernel_text(original: &'static str) -> impl Strategy<Value = String> {
    let damaged = proptest::collection::vec(damage(), 0..8).prop_map(move |damages| {
        damages.iter().fold(original.to_owned(), |text, damage| apply(&text, damage))
    });
    prop_oneof![1 => any::<String>(), 4 => damaged]
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0.0..1.0;
    let odd = prop_oneof![
        "[-+.:0-9 \n\t\\\\|()a-z]{1,6}",
        any::<char>().prop_map(String::from),
        Just("18446744073709551616".to_owned()),
        Just("\\040".to_owned()),
    ];
    prop_oneof![
        1 => place().prop_map(|from| Damage::Cut { from }),
        3 => (place(), 1_usize..40).prop_map(|(from, count)| Damage::Remove { from, count }),
        3 => (place(), odd).prop_map(|(at, text)| Damage::Insert { at, text }),
        1 => (place(), 1_usize..80).prop_map(|(from, count)| Damage::Repeat { from, count }),
    ]
}

fn apply(text: &str, damage: &Damage) -> String {
    let chars: Vec<char> = text.chars().collect();
    let place = |part: f64| (part * chars.len() as f64) as usize;
    let end = |from: usize, count: usize| (from + count).min(chars.len());
    let (head, middle, tail) = match damage {
        Damage::Cut { from } => (place(*from), String::new(), chars.len()),
        Damage::Remove { from, count } => (place(*from), String::new(), end(place(*from), *count)),
        Damage::Insert { at, text } => (place(*at), text.clone(), place(*at)),
        Damage::Repeat { from, count } => {
            let (from, to) = (place(*from), end(place(*from), *count));
            (to, chars[from..to].iter().collect(), to)
        }
    };
    let collect = |chars: &[char]| chars.iter().collect::<String>();
    format!("{}{middle}{}", collect(&chars[..head]), collect(&chars[tail..]))
}
