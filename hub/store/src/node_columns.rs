//! The columns `node` and `node_id` of a table in SQL: whose a row is.

/// SQL expression: the id of the node that had boot `?2` at URL `?1`. NULL: it proved none.
pub(crate) const ID_OF_BOOT: &str = "(SELECT node_id FROM node_boots WHERE url = ?1 AND boot_id = ?2)";

/// SQL expression in a query on a table with the columns `node` and `node_id`: the URL that the node used last.
macro_rules! url_of {
    ($table:literal) => {
        concat!("coalesce((SELECT url FROM nodes WHERE nodes.node_id = ", $table, ".node_id), ", $table, ".node)")
    };
}
pub(crate) use url_of;

/// SQL condition: the row belongs to the node that the parameter names, by its URL, its id, or the 16 digits that
/// people see of its id.
pub(crate) fn is_of_node(parameter: &str) -> String {
    format!(
        "((node_id IS NULL AND node = {parameter}) OR node_id IN \
         (SELECT node_id FROM nodes WHERE url = {parameter} OR node_id = lower({parameter}) \
          OR substr(node_id, 1, 16) = lower({parameter})))"
    )
}
