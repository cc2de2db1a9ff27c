//! The few numbers of a network that the checks need, and the subsidy.

use bitcoin::{Amount, Network, Target};

/// The greatest weight a block may have (BIP 141), in weight units; also a bound of its bytes.
pub const BLOCK_WEIGHT_MAX: u64 = 4_000_000;

/// Scripts longer than this can never be spent, so their outputs are no part of the UTXO set.
pub(crate) const SCRIPT_BYTES_MAX: usize = 10_000;

/// What a block at `height` may newly create, before fees.
///
/// The figure halves every 210,000 blocks (150 on regtest) and is zero after 64 halvings. A coinbase's
/// output sum less this is the fees that its miner claimed.
#[must_use]
pub fn subsidy(network: Network, height: u32) -> Amount {
    let interval = match network {
        Network::Regtest => 150,
        Network::Bitcoin | Network::Testnet | Network::Testnet4 | Network::Signet => {
            bitcoin::constants::SUBSIDY_HALVING_INTERVAL
        }
    };
    let halvings = height / interval;
    Amount::from_sat((50 * Amount::ONE_BTC.to_sat()).checked_shr(halvings).unwrap_or(0))
}

/// The easiest target that the network accepts.
pub(crate) fn target_max(network: Network) -> Target {
    network.params().max_attainable_target
}

/// From this height on the coinbase must state the block's height (BIP 34).
///
/// On regtest this is off, as blocks mined for a test often leave it out.
pub(crate) fn coinbase_height_from(network: Network) -> u32 {
    network.params().bip34_height
}

/// From this height on witnesses exist, and a coinbase that carries a commitment must honour it (BIP 141).
///
/// Before it, a commitment is only decoration: miners wrote some while the fork was being signalled.
pub(crate) fn segwit_from(network: Network) -> u32 {
    match network {
        Network::Bitcoin => 481_824,
        Network::Testnet => 834_624,
        Network::Testnet4 | Network::Signet => 1,
        Network::Regtest => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsidy_halves_and_ends() {
        let at = |height| subsidy(Network::Bitcoin, height).to_sat();
        assert_eq!(at(0), 5_000_000_000);
        assert_eq!(at(209_999), 5_000_000_000);
        assert_eq!(at(210_000), 2_500_000_000);
        assert_eq!(at(702_861), 625_000_000);
        assert_eq!(at(840_000), 312_500_000);
        assert_eq!(at(33 * 210_000), 0);
        assert_eq!(at(u32::MAX), 0);
        assert_eq!(subsidy(Network::Regtest, 149).to_sat(), 5_000_000_000);
        assert_eq!(subsidy(Network::Regtest, 150).to_sat(), 2_500_000_000);
        // More than 63 halvings: the shift itself would overflow.
        assert_eq!(subsidy(Network::Regtest, 150 * 64).to_sat(), 0);
    }

    #[test]
    fn all_subsidies_together_stay_below_21_million() {
        let total: u64 = (0..34).map(|era| subsidy(Network::Bitcoin, era * 210_000).to_sat() * 210_000).sum();
        assert_eq!(total, 2_099_999_997_690_000);
    }
}
