//! Functions that make labels: `label_replace` and `label_join`.

use regex::Regex;

use crate::{
    error::{Error, Result, execution},
    eval::{Evaluator, Grid, Series, series::merged},
    expr::Expr,
    labels::is_label_name,
};

impl Evaluator<'_> {
    pub(super) fn label_replace(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let mut all = self.vector(Self::argument(arguments, 0)?, grid)?;
        let text = |at| self.text(Self::argument(arguments, at)?, grid);
        let (target, template, from, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(|_| {
            let message = format!("invalid regular expression in label_replace(): {pattern}");
            Error::Execution(message)
        })?;
        if !is_label_name(&target) {
            let message = format!("invalid destination label name in label_replace(): {target}");
            return execution(message);
        }
        for series in &mut all {
            self.budget.work(1)?;
            let Some(found) = regex.captures(series.labels.get(&from)) else { continue };
            let mut value = String::new();
            found.expand(&template, &mut value);
            let mut labels = series.labels.builder();
            labels.set(&target, &value);
            series.labels = labels.build();
        }
        merged(all)
    }

    pub(super) fn label_join(&self, arguments: &[Expr], grid: Grid) -> Result<Vec<Series>> {
        let mut all = self.vector(Self::argument(arguments, 0)?, grid)?;
        let text = |at| self.text(Self::argument(arguments, at)?, grid);
        let (target, separator) = (text(1)?, text(2)?);
        if !is_label_name(&target) {
            let message = format!("invalid destination label name in label_join(): {target}");
            return execution(message);
        }
        let sources = (3..arguments.len()).map(text).collect::<Result<Vec<_>>>()?;
        if let Some(wrong) = sources.iter().find(|name| !is_label_name(name)) {
            return execution(format!("invalid source label name in label_join(): {wrong}"));
        }
        for series in &mut all {
            self.budget.work(1)?;
            let values: Vec<_> = sources.iter().map(|name| series.labels.get(name)).collect();
            let mut labels = series.labels.builder();
            labels.set(&target, &values.join(&separator));
            series.labels = labels.build();
        }
        merged(all)
    }
}
