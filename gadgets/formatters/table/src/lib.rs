//! t
use gadget_sdk::*;
gadget_sdk::export_formatter!(Table);
/// The formatter.
pub struct Table;
impl Module for Table {
    fn describe() -> Description {
        Description::new("table", env!("CARGO_PKG_VERSION"), "A table for people.")
    }
}
impl Formatter for Table {
    fn format(_params: &Params, policy: &Policy, about: &[Capture]) -> Result<Document, formatter::Error> {
        let mut t = comfy_table::Table::new();
        t.load_style(comfy_table::presets::NOTHING);
        for c in about { for s in c.syscalls() { t.add_row([s.name.clone().unwrap_or_default(), s.abi.to_string(), s.phases.to_string()]); } }
        t.add_row([format!("{:?}", policy.default_action)]);
        Ok(Document::new("text/plain", t.to_string()))
    }
}
