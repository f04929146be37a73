//! Who is in a consumer group, and which shards each member has: for people who ask how things are.

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Error, KafkaSettings};
use crate::domain::ids::Shard;

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As it calls itself.
    pub client_id: String,
    /// Where it is, as the broker sees it.
    pub host: String,
    /// What it was assigned, in order.
    pub shards: Vec<Shard>,
}

/// The members of each of these groups, in their order.
///
/// # Errors
/// Brokers that do not answer in time.
pub async fn members(settings: &KafkaSettings, groups: Vec<String>) -> Result<Vec<Vec<Member>>, Error> {
    let settings = settings.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = settings.client().create().map_err(Error::Settings)?;
        groups.iter().map(|group| members_of(&client, &settings, group)).collect()
    });
    asking.await.expect("asking for groups does not panic")
}

fn members_of(client: &BaseConsumer, settings: &KafkaSettings, group: &str) -> Result<Vec<Member>, Error> {
    let name = settings.group_name(group);
    let found = client
        .fetch_group_list(Some(&name), settings.request_timeout)
        .map_err(Error::request(format!("asking {} for group {name}", settings.brokers)))?;
    let members =
        found.groups().iter().filter(|group| group.name() == name).flat_map(|group| group.members());
    let mut members: Vec<Member> = members
        .map(|member| Member {
            client_id: member.client_id().to_owned(),
            host: member.client_host().trim_start_matches('/').to_owned(),
            shards: shards(settings, member.assignment().unwrap_or_default()),
        })
        .collect();
    members.sort_by(|one, other| one.shards.cmp(&other.shards).then(one.client_id.cmp(&other.client_id)));
    Ok(members)
}

/// Reads an assignment as the consumer protocol writes it; what cannot be read is no assignment.
fn shards(settings: &KafkaSettings, assignment: &[u8]) -> Vec<Shard> {
    let mut shards = parse(assignment).unwrap_or_default();
    shards.sort_unstable();
    let shards = shards.iter().filter_map(|(topic, partition)| settings.shard_of(topic, *partition));
    let mut shards: Vec<Shard> = shards.collect();
    shards.sort_unstable();
    shards
}

/// Version, then topics, each a name and its partitions; integers are big-endian.
fn parse(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let (_version, mut rest) = bytes.split_first_chunk::<2>()?;
    let mut found = Vec::new();
    for _ in 0..integer(&mut rest)? {
        let (length, name) = rest.split_first_chunk::<2>()?;
        let (name, after) = name.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let name = std::str::from_utf8(name).ok()?;
        rest = after;
        for _ in 0..integer(&mut rest)? {
            found.push((name.to_owned(), integer(&mut rest)?));
        }
    }
    Some(found)
}

fn integer(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(i32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNMENT: &[u8] =
        b"\0\x01\0\0\0\x01\0\x13portfolio.events.v1\0\0\0\x02\0\0\0\x07\0\0\0\x03\0\0\0\0";

    #[test]
    fn an_assignment_is_read_and_half_of_one_is_none() {
        let settings = KafkaSettings::new("nowhere:1");
        assert_eq!(shards(&settings, ASSIGNMENT), [Shard(3), Shard(7)]);
        for length in 0..ASSIGNMENT.len() - 4 {
            assert_eq!(parse(&ASSIGNMENT[..length]), None, "{length}");
        }
    }
}
