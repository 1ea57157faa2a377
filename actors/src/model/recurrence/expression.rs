//! The grammar of cron expressions that are accepted, and their plain form: six fields of numbers.

/// The longest expression, in bytes; NanoClaw's own limit.
const EXPRESSION_BYTES_MAX: usize = 1024;
/// A larger step selects the first value only, as this one does in every field.
const STEP_MAX: u32 = 99;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What one field may hold.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Names for the values from `min` on.
    names: &'static [&'static str],
    special: Special,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    None,
    /// `L`, the last day of the month.
    DayOfMonth,
    /// `5L`, the last Friday of the month, and `5#2`, its second Friday.
    DayOfWeek,
}

const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, names: &[], special: Special::None },
    Field { name: "minute", min: 0, max: 59, names: &[], special: Special::None },
    Field { name: "hour", min: 0, max: 23, names: &[], special: Special::None },
    Field { name: "day of month", min: 1, max: 31, names: &[], special: Special::DayOfMonth },
    Field { name: "month", min: 1, max: 12, names: &MONTHS, special: Special::None },
    Field { name: "day of week", min: 0, max: 7, names: &WEEKDAYS, special: Special::DayOfWeek },
];

fn nickname(text: &str) -> Option<&'static str> {
    Some(match text {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        "@minutely" => "0 * * * * *",
        "@secondly" => "* * * * * *",
        "@weekdays" => "0 0 0 * * 1-5",
        "@weekends" => "0 0 0 * * 0,6",
        _ => return None,
    })
}

/// The six fields of `expression` in numbers, or in words why it is none.
pub(super) fn normalise(expression: &str) -> Result<String, String> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("it has {} bytes, the limit is {EXPRESSION_BYTES_MAX}", expression.len()));
    }
    let expression = nickname(expression.trim()).unwrap_or(expression);
    let mut fields: Vec<&str> = expression.split_whitespace().collect();
    match fields.len() {
        5 => fields.insert(0, "0"),
        6 => {}
        count => return Err(format!("it has {count} fields, use five: \"0 9 * * 1-5\"")),
    }
    let plain: Result<Vec<String>, String> = FIELDS
        .iter()
        .zip(fields)
        .map(|(field, text)| field.normalise(text).map_err(|reason| format!("{}: {reason}", field.name)))
        .collect();
    Ok(plain?.join(" "))
}

impl Field {
    fn normalise(&self, text: &str) -> Result<String, String> {
        if matches!(text, "*" | "?") {
            return Ok("*".to_owned());
        }
        if self.special == Special::DayOfWeek
            && let Some((day, nth)) = text.split_once('#')
        {
            return match nth {
                "1" | "2" | "3" | "4" | "5" => Ok(format!("{}#{nth}", self.value(day)?)),
                _ => Err("# takes a number from 1 to 5, and stands alone".to_owned()),
            };
        }
        let items: Result<Vec<String>, String> = text.split(',').map(|item| self.item(item)).collect();
        Ok(items?.join(","))
    }

    fn item(&self, item: &str) -> Result<String, String> {
        if self.special == Special::DayOfMonth && item == "L" {
            return Ok("L".to_owned());
        }
        if self.special == Special::DayOfWeek
            && let Some(day) = item.strip_suffix('L')
        {
            return Ok(format!("{}L", self.value(day)?));
        }
        let Some((range, step)) = item.split_once('/') else { return self.range(item, false) };
        let step = match number(step) {
            Some(step) if step > 0 => step.min(STEP_MAX),
            _ => return Err(format!("{step:?} is not a step")),
        };
        Ok(format!("{}/{step}", self.range(range, true)?))
    }

    /// A value or a range. With `open_ended`, a single value is the start of a range up to the last value.
    fn range(&self, range: &str, open_ended: bool) -> Result<String, String> {
        if matches!(range, "*" | "?") {
            return Ok(format!("{}-{}", self.min, self.max));
        }
        let Some((first, last)) = range.split_once('-') else {
            let value = self.value(range)?;
            return Ok(if open_ended { format!("{value}-{}", self.max) } else { value.to_string() });
        };
        let first = self.value(first)?;
        let last = match self.value(last)? {
            // A week that ends on Sunday.
            0 if self.special == Special::DayOfWeek && first > 0 => 7,
            last => last,
        };
        if first > last {
            return Err(format!("the range {range:?} runs backwards"));
        }
        Ok(format!("{first}-{last}"))
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        let by_name = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match by_name {
            Some(position) => Some(self.min as u32 + position as u32),
            None => number(text),
        };
        match value.and_then(|value| u16::try_from(value).ok()) {
            Some(value) if (self.min..=self.max).contains(&value) => Ok(value),
            _ => Err(format!("{text:?} is not between {} and {}", self.min, self.max)),
        }
    }
}

/// Digits only: what `parse` also takes, a leading plus, is none in cron.
fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
