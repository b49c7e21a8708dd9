//! The contract grows, and nothing is taken away from it: what was built before runs, what needs more than there is, is told so.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Guest, HOST, assert_host_is_well, built_in, run};
use gadgetd_host::ModuleError;

/// The files of a contract.
fn contract(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    });
    files.collect()
}

#[tokio::test]
async fn a_component_of_the_previous_contract_runs() {
    // Else this would try nothing.
    assert_ne!(contract("previous/wit"), contract("../../sdk/wit"), "the copy is no older than the contract");
    let guest = Guest::new("previous", &gadgetd_guests::previous());
    let gadget = HOST.gadget(&guest.module()).await.unwrap();
    let imports: usize = gadget.imports().iter().map(|(_, functions)| functions.len()).sum();
    assert_eq!(imports, 16, "it no longer uses everything: {:?}", gadget.imports());
    let report = run(&gadget, &built_in().await.1).await.unwrap();
    let [profile, said] = report.documents.as_slice() else { panic!("{report:?}") };
    assert!(profile.document.body.contains("SCMP_ACT_ALLOW"), "{profile:?}");
    insta::assert_snapshot!(said.document.body, @r#"
    Reason::OnDemand
    None
    text=Value::Text("a text")
    boolean=Value::Boolean(true)
    integer=Value::Integer(-1)
    text-list=Value::TextList(["a", "b"])
    first Machine::X8664 read write lost=0
    second Machine::X8664 open lost=0
    create apply get list
    "#);
    assert_eq!((report.objects.len(), report.verdicts.len()), (1, 0));
    assert_eq!(report.log[0].message, "done");
    assert_host_is_well().await;
}

#[tokio::test]
async fn a_component_of_a_later_contract_is_told_so() {
    for version in ["0.1.9", "0.2.0", "1.0.0"] {
        let component = gadgetd_guests::of_version(&gadgetd_guests::gadget(None), version);
        let guest = Guest::new("later", &component);
        let error = HOST.gadget(&guest.module()).await.expect_err(version);
        assert!(matches!(error, ModuleError::Version { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("@{version}; this gadgetd has gadget:framework@0.1.0")), "{text}");
    }
    assert_host_is_well().await;
}
